// The host.
