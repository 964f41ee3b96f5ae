// Tests of VMM.
