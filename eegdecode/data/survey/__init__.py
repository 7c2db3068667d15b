"""What is in a study, before anything is made of it."""
