"""What the jobs run once their command line is checked."""
