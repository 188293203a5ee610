"""What a function is made of: its code as bytes, its settings, its plan."""
