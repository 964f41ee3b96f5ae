// Tests of GuestMemory.
