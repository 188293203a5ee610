"""What crosses between the host and its workers: values, frames, channels, control messages."""
