"""The 42 fields of Census-Income (KDD), in the order of the file, and what counts as educated."""

from __future__ import annotations

from typing import Literal

FIELDS = (
    *("age", "class_worker", "det_ind_code", "det_occ_code", "education", "wage_per_hour", "hs_college"),
    *("marital_stat", "major_ind_code", "major_occ_code", "race", "hisp_origin", "sex", "union_member"),
    *("unemp_reason", "full_or_part_emp", "capital_gains", "capital_losses", "stock_dividends"),
    *("tax_filer_stat", "region_prev_res", "state_prev_res", "det_hh_fam_stat", "det_hh_summ"),
    *("instance_weight", "mig_chg_msa", "mig_chg_reg", "mig_move_reg", "mig_same", "mig_prev_sunbelt"),
    *("num_emp", "fam_under_18", "country_father", "country_mother", "country_self", "citizenship"),
    *("own_or_self", "vet_question", "vet_benefits", "weeks_worked", "year", "income_50k"),
)

NUMBERS = frozenset(
    {
        *("age", "wage_per_hour", "capital_gains", "capital_losses", "stock_dividends"),
        *("num_emp", "weeks_worked"),
    }
)
"""Fields that are amounts; the other numbers (industry, occupation, year) are codes."""

LABELS = {"income": "income_50k", "marital": "marital_stat", "education": "education", "age": "age"}
"""Task → the field that its labels are made of."""

BACHELOR = (
    "Bachelors degree(BA AB BS)",
    "Masters degree(MA MS MEng MEd MSW MBA)",
    "Prof school degree (MD DDS DVM LLB JD)",
    "Doctorate degree(PhD EdD)",
)
ASSOCIATE = ("Associates degree-occup /vocational", "Associates degree-academic program")


def degrees(degree: Literal["bachelor", "college"]) -> tuple[str, ...]:
    """The values of `education` that count."""
    return BACHELOR if degree == "bachelor" else BACHELOR + ASSOCIATE
