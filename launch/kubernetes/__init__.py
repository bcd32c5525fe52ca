"""Jobs of Kubernetes: a headless Service and an Indexed Job, rendered as YAML, checked and applied."""
