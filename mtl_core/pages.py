"""What the HTML pages share: how a template is filled, and colours."""

from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#f0e442")
"""Colours that can be told apart with any kind of colour vision (Okabe and Ito 2008)."""


def render(package: str, template: str, **values: Any) -> str:
    """Fill a template that lies in a package's folder ``templates``; texts are escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # labels keep their order
    return environment.get_template(template).render(**values)
