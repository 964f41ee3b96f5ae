// The ttrpc protocol: framing and connection state.
