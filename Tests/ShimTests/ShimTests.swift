// Tests of Shim.
