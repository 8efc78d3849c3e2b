"""Files that several writers may replace at once, of which one shall win and the others shall know."""
