"""Cost, throughput, size and losses of the recorder, and the speed of the analysis."""

from __future__ import annotations

import analysis
import connections
import crashes
import footprint
import listeners
import overload
import owner_cost
import owners
import program_time
import size
import slowdown
import soak
import throughput
from bench import command

PARTS = {
    "program_time": program_time.measure,
    "slowdown": slowdown.measure,
    "connections": connections.measure,
    "footprint": footprint.measure,
    "throughput": throughput.measure,
    "size": size.measure,
    "owner_cost": owner_cost.measure,
    "owners": owners.measure,
    "listeners": listeners.measure,
    "overload": overload.measure,
    "analysis": analysis.measure,
    "soak": soak.measure,
    "crashes": crashes.measure,
}

if __name__ == "__main__":
    command.main(PARTS, __doc__)
