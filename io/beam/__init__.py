"""What Beam lacks, and what of its private parts is used."""
