// The shim.
