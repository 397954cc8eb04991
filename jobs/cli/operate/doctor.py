"""``mtl doctor``."""

import sys
from dataclasses import asdict

import click
from rich.table import Table

from jobs.cli.shared.common import json_option, print_json
from jobs.cli.shared.plain import cell, print_table
from jobs.doctor import Finding, examine
from jobs.settings import settings
from mtl_core.errors import SettingsError

COLOURS = {"ok": "green", "note": "yellow", "wrong": "red"}


@click.command()
@click.option(
    "--measure",
    is_flag=True,
    help="Measure before which precision this machine labels fastest in, and keep that: a minute "
    "or two.",
)
@json_option
def doctor(measure: bool, as_json: bool) -> None:
    """Say what this machine has of what labelling and training need, and what to do about the rest.

    Exit code 0 unless something is wrong; a note is no fault.

    \b
    Examples:
      mtl doctor
      mtl doctor --measure
      MTL_REDIS_URL=redis://localhost:6379/0 mtl doctor --json
    """
    if measure:
        from jobs.label.rates import measure_rates  # loads numpy

        try:
            measure_rates(settings())
        except OSError as error:
            raise SettingsError(f"{settings().state_dir}: {error.strerror}") from error
    findings = list(examine(settings()))
    print_json([asdict(finding) for finding in findings]) if as_json else _show(findings)
    if any(finding.state == "wrong" for finding in findings):
        sys.exit(2)


def _show(findings: list[Finding]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        found = cell(finding.found)
        if finding.remedy:
            found.append("\n→ ").append(cell(finding.remedy))
        table.add_row(cell(finding.state, COLOURS[finding.state]), finding.subject, found)
    print_table(table)
