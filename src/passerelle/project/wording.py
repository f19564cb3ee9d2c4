"""Wording: days, numbers and the fixed phrases of the scoping note, in the project's language."""

from __future__ import annotations

from datetime import date
from typing import Literal

Language = Literal["en", "fr"]

_MONTHS: dict[Language, str] = {
    "en": "January February March April May June July August September October November December",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
}
_SHORT_MONTHS: dict[Language, str] = {
    "en": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "fr": "janv. févr. mars avril mai juin juil. août sept. oct. nov. déc.",
}

#: Phrase → its English and its French; {names} are filled in by `say`.
_PHRASES = {
    # The state of the project.
    "standing": ("Where the project stands", "Où en est le projet"),
    "reached count": ("{reached} of {total} milestones reached.", "Jalons atteints : {reached} sur {total}."),
    "no milestones": ("No milestone is planned yet.", "Aucun jalon n'est encore prévu."),
    "late list": ("Late: {names}.", "En retard : {names}."),
    "nothing late": ("Nothing is late.", "Rien n'est en retard."),
    "next": ("Next: {name}, due on {day}.", "À suivre : {name}, pour le {day}."),
    "all reached": ("The plan is complete.", "Le plan est achevé."),
    "met count": ("{met} of {total} acceptance figures met.", "Chiffres de recette atteints : {met} sur {total}."),
    "missed list": ("Not yet: {names}.", "Pas encore : {names}."),
    "no version": ("No version has been measured yet.", "Aucune version n'a encore été mesurée."),
    "open one": ("One question of this note is still open.", "Une question de cette note reste ouverte."),
    "open many": (
        "{count} questions of this note are still open.",
        "{count} questions de cette note restent ouvertes.",
    ),
    "all answered": ("Every question of this note is answered.", "Toutes les questions de cette note ont une réponse."),
    # A milestone.
    "milestone": ("Milestone", "Jalon"),
    "planned": ("Planned", "Prévu"),
    "state": ("State", "État"),
    "from to": ("{start} to {end}", "du {start} au {end}"),
    "reached": ("reached on {day}", "atteint le {day}"),
    "reached late": ("reached on {day}, {days} late", "atteint le {day}, avec {days} de retard"),
    "late": ("late by {days}: it was due on {day}", "en retard de {days} : prévu pour le {day}"),
    "under way": ("under way, due on {day}", "en cours, pour le {day}"),
    "to come": ("starts on {start}", "commence le {start}"),
    "day": ("1 day", "1 jour"),
    "days": ("{count} days", "{count} jours"),
    "today": ("today", "aujourd'hui"),
    "plan": ("Plan: {count} milestones", "Plan : {count} jalons"),
    # An acceptance figure.
    "figure": ("Figure", "Chiffre"),
    "value": ("Value", "Valeur"),
    "bound": ("Asked", "Demandé"),
    "at least": ("at least {value}", "au moins {value}"),
    "at most": ("at most {value}", "au plus {value}"),
    "no bound": ("no bound is set", "aucun seuil n'est fixé"),
    "met": ("met", "atteint"),
    "not met": ("not yet", "pas encore"),
    "not measured": ("not measured yet", "pas encore mesuré"),
    "no acceptance": (
        "No acceptance figure is set in passerelle.toml.",
        "Aucun chiffre de recette dans passerelle.toml.",
    ),
    # Figures of the settings.
    "binary": ("yes or no", "oui ou non"),
    "multiclass": ("one class among several", "une classe parmi plusieurs"),
    "regression": ("a number", "un nombre"),
    "last days": ("last {count} days", "{count} derniers jours"),
    "share of keys": ("{share} of the keys", "{share} des clés"),
    "points": ("{value} points", "{value} point"),
    "hash": ("{name} hashed", "{name} hachée"),
    "drop": ("{name} dropped", "{name} supprimée"),
    "keep": ("{name} kept", "{name} gardée"),
    "none": ("none", "aucune"),
    "no time": ("no time column", "pas de colonne de temps"),
    "each event": ("each event", "chaque événement"),
    # The marker of an open question, as the templates write it.
    "open": ("[to answer]", "[à compléter]"),
    "rendered": ("Rendered on {day} by Passerelle", "Établi le {day} par Passerelle"),
}


def say(phrase: str, language: Language, **values: object) -> str:
    """A phrase in a language, with its values filled in.

    >>> say("reached", "fr", day="3 mars 2026")
    'atteint le 3 mars 2026'
    """
    english, french = _PHRASES[phrase]
    return (english if language == "en" else french).format(**values)


def day(moment: date, language: Language) -> str:
    """A day, written out.

    >>> day(date(2026, 3, 1), "en"), day(date(2026, 3, 1), "fr")
    ('1 March 2026', '1er mars 2026')
    """
    first = "1er" if language == "fr" and moment.day == 1 else str(moment.day)
    return f"{first} {_MONTHS[language].split()[moment.month - 1]} {moment.year}"


def month(moment: date, language: Language) -> str:
    """A month, short.

    >>> month(date(2026, 2, 1), "en"), month(date(2026, 2, 1), "fr")
    ('Feb 2026', 'févr. 2026')
    """
    return f"{_SHORT_MONTHS[language].split()[moment.month - 1]} {moment.year}"


def number(value: float, language: Language) -> str:
    """A figure with four significant digits.

    >>> number(0.74126, "en"), number(1234567, "fr"), number(4.44e-16, "en"), number(4.0, "fr")
    ('0.7413', '1\u202f234\u202f567', '4.44e-16', '4')
    """
    if value == round(value) and abs(value) < 1e15:  # noqa: PLR2004  (whole numbers that a float holds)
        text = f"{value:,.0f}"
    elif abs(value) >= 1000:  # noqa: PLR2004  (four digits before the point)
        text = f"{value:,.1f}"
    else:
        text = f"{value:.4g}"
    if language == "fr":
        text = text.replace(",", "\u202f").replace(".", ",")
    return text


def share(value: float, language: Language) -> str:
    """A share as percents.

    >>> share(0.25, "en"), share(0.025, "fr")
    ('25%', '2,5\u202f%')
    """
    return number(round(100 * value, 6), language) + ("%" if language == "en" else "\u202f%")


def days(count: int, language: Language) -> str:
    """So many days.

    >>> days(1, "en"), days(3, "fr")
    ('1 day', '3 jours')
    """
    return say("day", language) if count == 1 else say("days", language, count=count)
