"""What a function is confined to, prepared in the host; native/core/pf_confine.c applies it in the child."""
