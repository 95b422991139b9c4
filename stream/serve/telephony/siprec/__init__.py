"""A recording server (SIPREC): SIP, SDP, metadata and RTP of a telephone system."""
