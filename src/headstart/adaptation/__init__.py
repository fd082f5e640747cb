"""Going on with pretraining on texts without labels, before anything is trained on labels."""
