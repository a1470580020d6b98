"""The command line. A verb is a file of this folder whose name has no leading underscore:

its docstring's first line is what `lm help` prints; `define_flags(flags)` defines its flags on a
`lm.flags.Flags`; `main(flags)` does the work, results to stdout, everything else to stderr. A new
verb is a new file, there is no list to edit.

Installed, this folder is the package `lm_launch`; from the repository root it is `launch`. Its
modules therefore import each other relatively.
"""
