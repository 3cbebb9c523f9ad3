"""The kernel side: BPF programs, what they need to know of the running kernel, and their loader.

`kinds` holds one declaration and one C file per event kind. `btf` and `features` read the running
kernel, `codegen` turns both into C, `loader` compiles and attaches in a process of its own.
"""
