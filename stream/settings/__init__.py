"""What a run is made of: settings, profiles, flags, rules."""
