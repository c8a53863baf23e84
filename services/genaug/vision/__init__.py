"""Images and networks that several services share."""
