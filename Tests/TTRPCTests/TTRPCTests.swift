// Tests of TTRPC.
