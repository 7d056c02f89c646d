"""The twenty attributes of the German credit data in plain words, in the order of the file's columns.

The level labels put the source's own descriptions (the .names file that comes with the data) into short sentences;
levels the source names but never uses are kept, so that their codes mean the same in every copy of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Attribute:
    """A column: a number with its unit, or a coded one with what each code means."""

    name: str
    label: str
    unit: str | None = None
    levels: Mapping[str, str] = field(default_factory=dict)


ATTRIBUTES = (
    Attribute(
        "checking_account",
        "checking account",
        levels={
            "A11": "checking account < 0 DM",
            "A12": "checking account 0 to 200 DM",
            "A13": "checking account ≥ 200 DM, or salary paid in for a year",
            "A14": "no checking account",
        },
    ),
    Attribute("duration", "duration of the loan", "months"),
    Attribute(
        "credit_history",
        "credit history",
        levels={
            "A30": "no credits taken, or all paid back duly",
            "A31": "all credits at this bank paid back duly",
            "A32": "existing credits paid back duly till now",
            "A33": "delay in paying off in the past",
            "A34": "critical account, or credits at other banks",
        },
    ),
    Attribute(
        "purpose",
        "purpose of the loan",
        levels={
            "A40": "new car",
            "A41": "used car",
            "A42": "furniture or equipment",
            "A43": "radio or television",
            "A44": "domestic appliances",
            "A45": "repairs",
            "A46": "education",
            "A47": "vacation",
            "A48": "retraining",
            "A49": "business",
            "A410": "other purpose",
        },
    ),
    Attribute("amount", "amount of the loan", "DM"),
    Attribute(
        "savings",
        "savings account or bonds",
        levels={
            "A61": "savings < 100 DM",
            "A62": "savings 100 to 500 DM",
            "A63": "savings 500 to 1000 DM",
            "A64": "savings ≥ 1000 DM",
            "A65": "savings unknown or none",
        },
    ),
    Attribute(
        "employment",
        "present employment since",
        levels={
            "A71": "unemployed",
            "A72": "employed < 1 year",
            "A73": "employed 1 to 4 years",
            "A74": "employed 4 to 7 years",
            "A75": "employed ≥ 7 years",
        },
    ),
    Attribute("installment_rate", "installment burden (class 1 to 4)"),
    Attribute(
        "status_and_sex",
        "personal status and sex",
        levels={
            "A91": "man, divorced or separated",
            "A92": "woman, divorced, separated or married",
            "A93": "man, single",
            "A94": "man, married or widowed",
            "A95": "woman, single",
        },
    ),
    Attribute(
        "other_debtors",
        "other debtors or guarantors",
        levels={"A101": "no other debtor", "A102": "co-applicant", "A103": "guarantor"},
    ),
    Attribute("residence", "time at this residence (class 1 to 4)"),
    Attribute(
        "property",
        "most valuable property",
        levels={
            "A121": "real estate",
            "A122": "building society savings or life insurance",
            "A123": "car or other property",
            "A124": "property unknown or none",
        },
    ),
    Attribute("age", "age", "years"),
    Attribute(
        "other_plans",
        "other installment plans",
        levels={"A141": "installments at a bank", "A142": "installments at stores", "A143": "no other installments"},
    ),
    Attribute(
        "housing",
        "housing",
        levels={"A151": "rents", "A152": "owns the home", "A153": "lives for free"},
    ),
    Attribute("existing_credits", "existing credits at this bank"),
    Attribute(
        "job",
        "job",
        levels={
            "A171": "unemployed, or unskilled and not resident",
            "A172": "unskilled, resident",
            "A173": "skilled employee or official",
            "A174": "management, self-employed or highly qualified",
        },
    ),
    Attribute("dependants", "people to provide maintenance for", "people"),
    Attribute("telephone", "telephone", levels={"A191": "no telephone", "A192": "telephone in the applicant's name"}),
    Attribute("foreign_worker", "foreign worker", levels={"A201": "foreign worker", "A202": "not a foreign worker"}),
)
