"""What a researcher looks at first: classes, subjects, photographs, and what a careless split would leak."""
