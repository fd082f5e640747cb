"""Reading, checking and splitting of labelled texts."""
