"""What statistics cost: their sketches, for each value, and those of a dataset, in a job."""
