"""The output of a label job: its layout, and what is done with a finished one."""
