"""What decisions cost, measured against a floor in the same run."""
