// Generated code goes here.
