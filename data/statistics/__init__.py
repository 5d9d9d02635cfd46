"""What a split holds, and what it must look like."""
