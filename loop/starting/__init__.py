"""A first recipe for somebody's own model and data: `ouroloop init`.

`survey` looks at the data, `settings` chooses from what it saw, `writing` makes the commented file,
`command` is the command.
"""
