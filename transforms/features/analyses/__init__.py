"""What a fit analyzes beside the analyses of tensorflow-transform: integers as they are, and what is lost."""
