"""What a stage works with in one rank: context, process group, signals, inputs on the node."""
