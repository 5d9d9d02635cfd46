"""label_validator: what a model's answers tell about labels, and about data without any."""
