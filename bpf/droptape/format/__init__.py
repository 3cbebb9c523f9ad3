"""The recording format: everything that the recorder and the analysis share.

`types` and `schema` are the vocabulary of declarations, `common` and `tables` the declarations
that belong to no event kind, `layout` names the files, `journal` and `decode` read and write
segments that are not sealed, `manifest` is recording.json. docs/FORMAT.md is generated from it.
"""
