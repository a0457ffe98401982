"""One file per thing that is measured; each runs in a process of its own and needs only its own library."""
