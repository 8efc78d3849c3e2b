"""What statistics suggest: a schema, and rules that the data meets."""
