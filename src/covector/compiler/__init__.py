"""From programs to loop IR: passes, scheduling, the memory plan."""
