"""Look at a folder of recordings, and write a config for it: `hpc init FOLDER`."""
