"""The operator's command, `completion-sync`: it works on a deployed stack with the operator's own AWS credentials."""
