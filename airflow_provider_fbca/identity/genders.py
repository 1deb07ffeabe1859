"""GEN: ``m`` or ``f``, from the words people store.

Meta knows these two values only, so that any other word is blank, and so are codes such as 0, 1 and 2: systems disagree
on what they mean. Source:
https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
"""

from __future__ import annotations

from functools import cache

from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.text import fold

_MALE = (
    "m male man men masculine boy mr mister sir gentleman "
    "mann männlich herr junge homme masculin monsieur garçon hombre masculino varón señor niño "
    "uomo maschio maschile signore homem senhor rapaz mand manlig mannelijk heer herra mies "
    "mężczyzna pan muž mužský férfi bărbat erkek bay άνδρας άντρας мужской мужчина муж м чоловік чоловіча чоловічий "
    "мъж ذكر رجل זכר גבר पुरुष ชาย nam laki-laki lelaki pria 男 男性 男人 男の 先生 남 남자 남성"
)
_FEMALE = (
    "f female woman women feminine girl mrs ms miss madam lady "
    "w frau weiblich mädchen "
    "femme féminin madame mademoiselle mme fille mujer femenino femenina hembra señora señorita niña "
    "donna femmina femminile signora signorina mulher feminino feminina senhora menina vrouw vrouwelijk mevrouw "
    "kvinna kvinde kvinne kvinnlig kvindelig kvinnelig nainen rouva "
    "kobieta pani žena ženský ženské nő femeie kadin kad\u0131n bayan "
    "γυναίκα женский женщина жен ж жінка жіноча жіночий "
    "жена أنثى امرأة נקבה אישה महिला स्त्री หญิง nữ perempuan wanita 女 女性 女人 女士 여 여자 여성"
)


def normalise_gender(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give ``m`` or ``f``.

    :param text: one trimmed cell that is no placeholder.
    :param context: not used.
    """
    return _genders().get(fold(text), Blank.UNKNOWN_GENDER)


@cache
def _genders() -> dict[str, str]:
    words = {fold(word): "m" for word in _MALE.split()}
    words.update((fold(word), "f") for word in _FEMALE.split())
    return words
