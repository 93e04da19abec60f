"""Results as people and programs read them."""

import datetime
import json
import os
import platform


def machine():
    model = "processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, loopback"


def today():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def number(value):
    if value is None:
        return "–"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


class Outcome:
    """One row's medians; `reasons` says why somebody has none."""

    def __init__(self, row, samples, reasons):
        self.row, self.samples, self.reasons = row, samples, reasons
        self.values = {name: sorted(all_of_it)[len(all_of_it) // 2] for name, all_of_it in samples.items() if all_of_it}
        self.verdicts = [verdict for verdict in (goal.judge(row, self.values) for goal in row.goals) if verdict]

    def text(self):
        lines = [f"{self.row.name}: {self.row.title}, {self.row.unit}"]
        ours = self.values.get(self.row.us)
        for subject in self.row.subjects:
            value = self.values.get(subject.name)
            if value is None:
                lines.append(f"    {subject.name:<26} – {self.reasons.get(subject.name, '')}")
                continue
            spread = f"{number(min(self.samples[subject.name]))}…{number(max(self.samples[subject.name]))}"
            ratio = "" if subject.name == self.row.us or not ours else f"   ours is {ours / value:.2f} of it"
            lines.append(f"    {subject.name:<26} {number(value):>8}   {spread:<16}{ratio}")
        for text, ratio, met in self.verdicts:
            lines.append(f"    goal {text}: {ratio:.2f}, {'met' if met else 'MISSED'}")
        return "\n".join(lines)

    def document(self):
        return {
            "name": self.row.name, "title": self.row.title, "unit": self.row.unit, "medians": self.values, "samples": self.samples,
            "reasons": self.reasons, "goals": [{"goal": text, "ratio": ratio, "met": met} for text, ratio, met in self.verdicts],
        }

    def markdown(self):
        others = ", ".join(
            f"{subject.name} {number(self.values.get(subject.name))}" for subject in self.row.subjects if subject.name != self.row.us)
        goals = "; ".join(f"{text}: {ratio:.2f}{'' if met else ' (missed)'}" for text, ratio, met in self.verdicts)
        return f"| {self.row.title} | {number(self.values.get(self.row.us))} {self.row.unit} | {others} | {goals} |"


def heading():
    return "| what | iotstream | others | goal: ratio |\n|---|---|---|---|"


def summary(outcomes):
    verdicts = [met for outcome in outcomes for _, _, met in outcome.verdicts]
    return f"{sum(verdicts)} of {len(verdicts)} goals met"


def write(file, outcomes):
    document = {"date": today(), "machine": machine(), "rows": [outcome.document() for outcome in outcomes]}
    with open(file, "w") as out:
        json.dump(document, out, indent=2, ensure_ascii=False)
        out.write("\n")
