"""Stock Debian kernels in throw-away virtual machines that see this machine's files.

    python -m vm fetch 6.1 newest     unpack kernels into ~/.cache/vm-kernels
    python -m vm run 6.1 COMMAND …    run a command as root under one of them
    python -m vm test 5.10 6.1        run the kernel tests under each, print the support table

`make kernels` does the last for the kernels that droptape promises to work on.
"""
