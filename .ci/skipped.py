"""Says which tests ran in no environment, and why; fails where the reason is a missing package.

python .ci/skipped.py REPORT.xml …    (pytest --junitxml, one for each environment)
"""

import ast
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict

PACKAGE_IS_MISSING = ("needs the extra", "could not import", "No module named")


def reason_of(skip: ElementTree.Element) -> str:
    if skip.get("message") != "collection skipped":
        return skip.get("message", "")
    _, _, reason = ast.literal_eval(skip.text)  # the place and the reason, of a whole module
    return reason.removeprefix("Skipped: ")


def main(reports: list[str]) -> int:
    ran: set[str] = set()
    modules: set[str] = set()  # of which something ran
    skipped: dict[str, str] = {}
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            # A module that is skipped as a whole is a case without a class.
            name = "::".join(part for part in (case.get("classname"), case.get("name")) if part)
            skip = case.find("skipped")
            if skip is None:
                ran.add(name)
                modules.add(case.get("classname", ""))
            else:
                skipped[name] = reason_of(skip)
    by_reason = defaultdict(list)
    for name, reason in skipped.items():
        if name not in ran | modules:
            by_reason[reason].append(name)
    print(f"{len(ran)} tests ran; skipped in every environment:{'' if by_reason else ' none'}")
    for reason, names in by_reason.items():
        print(f"  {reason}: {len(names)}")
        for name in names:
            print(f"    {name}")
    return int(any(part in reason for reason in by_reason for part in PACKAGE_IS_MISSING))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
