"""What the branches' gradients do to each other."""
