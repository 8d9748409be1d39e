"""Reads the section `Call arguments:` of docstrings as a list of names."""

import re

import griffe


class CallArguments(griffe.Extension):
    """Gives the section a name that the parser of Google's style knows."""

    def on_instance(self, *, obj, **kwargs):
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^Call arguments:$",
                "Attributes: Call arguments:",
                obj.docstring.value,
                flags=re.M,
            )
