// OCI specifications.
