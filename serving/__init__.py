"""What it becomes: signatures, folding, versions, server configuration, client."""
