"""Who can run an invocation: instances, the processes above them, and the decisions about both."""
