"""Other tasks of a pretrained model: one table of tasks, one file per family, one door (`headstart.infer`)."""
