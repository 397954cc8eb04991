"""``mtl doctor``."""

import sys
from dataclasses import asdict

import click
from rich.table import Table

from jobs.cli.shared.common import json_option, print_json
from jobs.cli.shared.plain import cell, print_table
from jobs.doctor import Finding, examine
from jobs.settings import settings

COLOURS = {"ok": "green", "note": "yellow", "wrong": "red"}


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what this machine has of what labelling and training need, and what to do about the rest.

    Exit code 0 unless something is wrong; a note is no fault.

    \b
    Examples:
      mtl doctor
      MTL_REDIS_URL=redis://localhost:6379/0 mtl doctor --json
    """
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
