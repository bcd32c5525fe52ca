"""A training on Kubernetes: a headless Service and an Indexed Job, rendered, checked and applied."""
