"""Classifies SQL functions for use in rules: the reviewed table of DuckDB's catalogue.

DuckDB labels each overload of a function by how steady its result is. But these labels serve its optimizer and change
between releases: 2.0.1 calls `+` on a TIMESTAMP WITH TIME ZONE unsteady, since the time zone is a setting, while
`version()` and macros over the clock carry no such label. So this table decides which functions a rule may call, name
by name, by what they mean:

=============  ====================================================  =======================================
nature         the value                                             in a rule
=============  ====================================================  =======================================
`ROW`          follows from the arguments alone                      yes
`ZONED`        follows from the arguments and the time zone          yes: the engine's zone is pinned to UTC
`GROWS`        as `ROW`, but as large as an argument says            within bounds
`CLOCK`        the time of the query                                 no
`RANDOM`       another one each time                                 no
`STATE`        the engine's: session, settings, catalogue, platform  no
`EFFECT`       it acts: waits, logs, counts, raises                  no
`AGGREGATE`    of many rows                                          no
`WINDOW`       of neighbouring rows                                  no
`TABLE`        many rows                                             no
`INTERNAL`     what the engine's plans and storage call              no
`STATEMENT`    none, it stands alone (PRAGMA)                        no
=============  ====================================================  =======================================

A name has one nature. If it also names a table function, it has the nature of its scalar function. Only `age` has two,
which differ in their arguments. A test compares the table with the installed DuckDB's catalogue and names differences.
"""

import enum


class Nature(enum.Enum):
    """What a function's value depends on; messages show the enum's value."""

    ROW = "the row"
    ZONED = "the row, in UTC"
    GROWS = "the row, as large as an argument says"
    CLOCK = "the clock"
    RANDOM = "chance"
    STATE = "the state of the engine"
    EFFECT = "an effect: it waits, logs, counts or raises"
    AGGREGATE = "an aggregate"
    WINDOW = "a window function"
    TABLE = "a table"
    INTERNAL = "a part of the engine"
    STATEMENT = "a statement"


STEADY = frozenset({Nature.ROW, Nature.ZONED, Nature.GROWS})
UNSTEADY = frozenset({Nature.CLOCK, Nature.RANDOM, Nature.STATE, Nature.EFFECT})

# Names with a space, which the lists below cannot hold.
_SPACED = ("is distinct from", "is not distinct from")

# A bound plan calls CAST and BETWEEN __cast and __between.
_OPERATORS = """
!__postfix != !~~ !~~* % & && * ** + - ->> / // < <-> << <= <=> <@ = > >= >> @ @> ^ ^@ | || ~ ~~ ~~* ~~~
__between __cast add decimal_division divide mod multiply subtract xor
ilike_escape like_escape not_ilike_escape not_like_escape
"""

_NUMBERS = """
abs acos acosh asin asinh atan atan2 atanh binom bit_count bit_position cbrt ceil ceiling cos cosh cot degrees even exp
factorial fdiv floor fmod gamma gcd get_bit greatest greatest_common_divisor isfinite isinf isnan lcm least
least_common_multiple lgamma ln log log10 log2 nextafter pi pow power radians round round_even roundbankers set_bit
sign signbit sin sinh sqrt tan tanh trunc
"""

# `bar` and `to_base` grow too, but the engine refuses more than 1,000 and 64 characters.
# `hash` and the order of `list_distinct` may change with the version of DuckDB, but not between rows or runs.
_TEXT = """
array_extract array_slice ascii bar base64 bin bit_length char_length character_length chr concat concat_ws contains
damerau_levenshtein decode editdist3 encode ends_with format_bytes formatreadabledecimalsize formatreadablesize
from_base64 from_binary from_hex hamming hash hex instr jaccard jaro_similarity jaro_winkler_similarity lcase left
left_grapheme len length length_grapheme levenshtein lower ltrim md5 md5_number md5_number_lower md5_number_upper
mismatches nfc_normalize octet_length ord overlay parse_dirname parse_dirpath parse_filename parse_formatted_bytes
parse_path position prefix regexp_escape regexp_extract regexp_extract_all regexp_full_match regexp_matches
regexp_replace regexp_split_to_array replace reverse right right_grapheme rtrim sha1 sha256 split split_part
starts_with str_split str_split_regex string_split string_split_regex string_to_array strip_accents strlen strpos
substr substring substring_grapheme suffix to_base64 to_binary to_hex translate trim ucase unbin unhex unicode upper
to_base url_decode url_encode
"""

_LISTS = """
aggregate apply array_aggr array_aggregate array_append array_apply array_cat array_concat array_contains
array_cosine_distance array_cosine_similarity array_cross_product array_distance array_distinct array_dot_product
array_filter array_grade_up array_has array_has_all array_has_any array_indexof array_inner_product array_intersect
array_length array_negative_dot_product array_negative_inner_product array_pop_back array_pop_front array_position
array_prepend array_push_back array_push_front array_reduce array_reverse array_reverse_sort array_select array_sort
array_to_string array_to_string_comma_default array_transform array_unique array_value array_where array_zip filter
flatten grade_up invoke list_aggr list_aggregate list_any_value list_append list_apply list_approx_count_distinct
list_avg list_bit_and list_bit_or list_bit_xor list_bool_and list_bool_or list_cat list_concat list_contains
list_cosine_distance list_cosine_similarity list_count list_distance list_distinct list_dot_product list_element
list_entropy list_extract list_filter list_first list_grade_up list_has list_has_all list_has_any list_histogram
list_indexof list_inner_product list_intersect list_kurtosis list_kurtosis_pop list_last list_mad list_max list_median
list_min list_mode list_negative_dot_product list_negative_inner_product list_pack list_position list_prepend
list_product list_reduce list_reverse list_reverse_sort list_select list_sem list_skewness list_slice list_sort
list_stddev_pop list_stddev_samp list_string_agg list_sum list_transform list_unique list_value list_var_pop
list_var_samp list_where list_zip reduce unpivot_list
"""

_STRUCTS_AND_MAPS = """
cardinality element_at map map_concat map_contains map_contains_entry map_contains_value map_entries map_extract
map_extract_value map_from_entries map_keys map_values remap_struct row struct_concat struct_contains struct_extract
struct_extract_at struct_has struct_indexof struct_insert struct_keys struct_pack struct_position struct_update
struct_values union_extract union_tag union_value
"""

_JSON_AND_VARIANTS = """
array_to_json from_json from_json_strict json json_array json_array_length json_contains json_deep_merge json_exists
json_extract json_extract_path json_extract_path_text json_extract_string json_insert json_keys json_merge_patch
json_merge_patch_diff json_normalize json_object json_pretty json_quote json_remove json_replace json_set
json_strip_nulls json_structure json_transform json_transform_strict json_type json_valid json_value row_to_json to_json
variant_array_length variant_contains variant_exists variant_extract variant_extract_string variant_keys
variant_normalize variant_type variant_typeof
"""

_GEOMETRIES = """
st_asbinary st_asgeojson st_astext st_aswkb st_aswkt st_crs st_geomfromgeojson st_geomfromwkb st_intersects_extent
st_setcrs vertex_extract
"""

# Functions of times without a zone, or of instants as numbers.
_TIMES = """
days_in_month epoch epoch_ms epoch_ns epoch_us make_date make_time make_timestamp make_timestamp_ms make_timestamp_ns
nanosecond normalized_interval strptime to_centuries to_days to_decades to_hours to_microseconds to_millennia
to_milliseconds to_minutes to_months to_quarters to_seconds to_timestamp to_weeks to_years try_strptime
uuid_extract_timestamp uuid_extract_version
"""

# Types are known when a rule is bound, and the name of an expression when it is written. The macros for Postgres' type
# names are tables of constants.
_TYPES_AND_CONDITIONS = """
alias can_cast_implicitly cast_to_type constant_or_null enum_code enum_first enum_last enum_range enum_range_boundary
format_pg_type get_type hive_partition_component if is_histogram_other_bin make_type map_to_pg_oid
map_type_id_to_pg_oid nullif pg_size_pretty pg_typeof replace_type switch typeof
"""

# Sort keys are values that depend on the arguments alone.
_SORT_KEYS = "bitstring_byte_comparable create_sort_key icu_sort_key timetz_byte_comparable variant_comparator"

# Functions with an overload that takes or returns a TIMESTAMP WITH TIME ZONE, whose days and hours are the zone's.
_ZONED = """
age century date_add date_diff date_part date_sub date_trunc datediff datepart datesub datetrunc day dayname dayofmonth
dayofweek dayofyear decade era hour isodow isoyear json_copy_strftime_if_date json_copy_strftime_if_timestamp julian
last_day make_timestamptz microsecond millennium millisecond minute month monthname quarter second strftime time_bucket
timezone timezone_hour timezone_minute week weekday weekofyear year yearweek
"""

# A number determines the size of the result: its length, its padding, its bins or items, the width in a template.
_GROWS = """
array_resize bitstring equi_width_bins format generate_series list_resize lpad printf range repeat rpad
"""

# pg_conf_load_time and the like are macros over the clock, which the engine does not label.
_CLOCK = """
ago current_date current_localtime current_localtimestamp get_current_time get_current_timestamp now pg_conf_load_time
pg_postmaster_start_time today transaction_timestamp
"""

_RANDOM = "gen_random_uuid random uuid uuidv4 uuidv7"

# Session and catalogue; privileges and visibility, which are constants and say nothing of a row; the engine's knowledge
# of a batch (`stats`, `vector_type`), of its indexes, of its log types and of its parser; the platform's separator
# (`path_join`).
_STATE = """
col_description current_catalog current_connection_id current_database current_query current_query_id current_role
current_schema current_schemas current_setting current_transaction_id current_user format_type get_block_size
getvariable has_any_column_privilege has_column_privilege has_database_privilege has_foreign_data_wrapper_privilege
has_function_privilege has_language_privilege has_schema_privilege has_sequence_privilege has_server_privilege
has_table_privilege has_tablespace_privilege in_search_path index_key inet_client_addr inet_client_port
inet_server_addr inet_server_port json_deserialize_sql json_serialize_plan json_serialize_sql obj_description
parse_duckdb_log_message path_join pg_collation_is_visible pg_conversion_is_visible pg_function_is_visible
pg_get_constraintdef pg_get_expr pg_get_viewdef pg_has_role pg_is_other_temp_schema pg_my_temp_schema
pg_opclass_is_visible pg_operator_is_visible pg_opfamily_is_visible pg_table_is_visible pg_ts_config_is_visible
pg_ts_dict_is_visible pg_ts_parser_is_visible pg_ts_template_is_visible pg_type_is_visible session_user
shobj_description stats txid_current user vector_type version
"""

# Sequences count, seeds change later results, and a failed assertion is an error that TRY would hide as NULL.
_EFFECT = "assert_true currval error nextval pg_sleep setseed setval sleep_ms write_log"

# Macros of aggregates, such as `geomean`, are here too.
_AGGREGATES = """
any_value approx_count_distinct approx_quantile approx_top_k arbitrary arg_max arg_max_null arg_max_nulls_last arg_min
arg_min_null arg_min_nulls_last argmax argmin array_agg avg bit_and bit_or bit_xor bitstring_agg bool_and bool_or
combine_aggr corr count count_if count_star countif covar_pop covar_samp decimal_average entropy favg first fsum geomean
geometric_mean group_concat histogram histogram_exact json_group_array json_group_object json_group_structure kahan_sum
kurtosis kurtosis_pop last list listagg lttb mad max max_by mean median min min_by mode product quantile quantile_cont
quantile_disc regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
reservoir_quantile sem skewness stddev stddev_pop stddev_samp string_agg sum sum_no_overflow sumkahan var_pop var_samp
variance variant_group_array variant_group_object wavg weighted_avg
"""

_WINDOWS = """
cume_dist dense_rank fill first_value lag last_value lead nth_value ntile percent_rank rank rank_dense row_number
"""

# Most read files or the catalogue, or change the engine; `unnest` and macros over it can stand in place of a value.
_TABLES = """
add_grammar_extension arrow_scan arrow_scan_dumb checkpoint create_external_resource deregister_external_resource
destroy_external_resource disable_logging disable_profiling duckdb_approx_database_count duckdb_available_metrics
duckdb_columns duckdb_connection_count duckdb_constraints duckdb_coordinate_systems duckdb_databases
duckdb_dependencies duckdb_dialects duckdb_eviction_queues duckdb_extension_repositories duckdb_extensions
duckdb_external_file_cache duckdb_external_resource_types duckdb_external_resources duckdb_functions
duckdb_grammar_extensions duckdb_indexes duckdb_keywords duckdb_live_query_metrics duckdb_log_contexts duckdb_logs
duckdb_logs_parsed duckdb_memory duckdb_optimizers duckdb_prepared_statements duckdb_profiling_settings duckdb_schemas
duckdb_secret_type_parameters duckdb_secret_types duckdb_secrets duckdb_sequences duckdb_settings duckdb_table_sample
duckdb_tables duckdb_temporary_files duckdb_triggers duckdb_types duckdb_variables duckdb_views enable_logging
enable_profiling force_checkpoint generate_subscripts glob histogram_values icu_calendar_names json_each
json_execute_serialized_sql json_tree pandas_scan parquet_bloom_probe parquet_file_metadata parquet_full_metadata
parquet_kv_metadata parquet_metadata parquet_page_index parquet_scan parquet_schema pg_timezone_names
pragma_collations pragma_database_size pragma_metadata_info pragma_platform pragma_show pragma_storage_info
pragma_table_info pragma_user_agent pragma_version python_arrow_scan python_map_function query query_table read_blob
read_csv read_csv_auto read_duckdb read_json read_json_auto read_json_objects read_json_objects_auto read_ndjson
read_ndjson_auto read_ndjson_objects read_parquet read_single_csv_file read_single_json_file read_single_parquet_file
read_text regexp_split_to_table register_external_resource register_external_resource_type remove_grammar_extension
repeat_row seq_scan sniff_csv summary test_all_types test_vector_types truncate_duckdb_logs unnest which_secret
"""

# States of aggregates split over threads, and Parquet's own encoding of variants.
_INTERNAL = "combine finalize to_aggregate_state variant_bytes_to_variant variant_to_parquet_variant"

_STATEMENTS = """
add_parquet_key collations copy_database database_list database_size disable_checkpoint_on_shutdown
disable_object_cache disable_optimizer disable_print_progress_bar disable_profile disable_progress_bar
disable_verification disable_verify_parallelism enable_checkpoint_on_shutdown enable_object_cache enable_optimizer
enable_print_progress_bar enable_profile enable_progress_bar enable_verification extension_versions functions
import_database metadata_info platform show show_databases show_tables show_tables_expanded storage_info table_info
user_agent verify_parallelism
"""

# Families that the engine generates: a collation for each locale of ICU, and steps of its optimizer.
_FAMILIES = {"collate_": Nature.ROW, "icu_collate_": Nature.ROW, "__internal_": Nature.INTERNAL}

# Values that are keywords of the grammar, not functions of the catalogue.
KEYWORDS = dict.fromkeys(("current_time", "current_timestamp", "localtime", "localtimestamp"), Nature.CLOCK)

_GROUPS = (
    (Nature.ROW, _OPERATORS),
    (Nature.ROW, _NUMBERS),
    (Nature.ROW, _TEXT),
    (Nature.ROW, _LISTS),
    (Nature.ROW, _STRUCTS_AND_MAPS),
    (Nature.ROW, _JSON_AND_VARIANTS),
    (Nature.ROW, _GEOMETRIES),
    (Nature.ROW, _TIMES),
    (Nature.ROW, _TYPES_AND_CONDITIONS),
    (Nature.ROW, _SORT_KEYS),
    (Nature.ZONED, _ZONED),
    (Nature.GROWS, _GROWS),
    (Nature.CLOCK, _CLOCK),
    (Nature.RANDOM, _RANDOM),
    (Nature.STATE, _STATE),
    (Nature.EFFECT, _EFFECT),
    (Nature.AGGREGATE, _AGGREGATES),
    (Nature.WINDOW, _WINDOWS),
    (Nature.TABLE, _TABLES),
    (Nature.INTERNAL, _INTERNAL),
    (Nature.STATEMENT, _STATEMENTS),
)

FUNCTIONS: dict[str, Nature] = {
    **{name: nature for nature, names in _GROUPS for name in names.split()},
    **dict.fromkeys(_SPACED, Nature.ROW),
}

# Functions that take a list and the name of an aggregate. Their result depends on the row, but one aggregate is random.
LIST_AGGREGATES = frozenset({"aggregate", "array_aggr", "array_aggregate", "list_aggr", "list_aggregate"})
RANDOM_AGGREGATES = frozenset({"reservoir_quantile"})


def nature_of(name: str, arguments: int | None = None) -> Nature | None:
    """Returns the nature of a function, by its name in lower case; None for one that was not reviewed.

    >>> nature_of("lower"), nature_of("age", 1), nature_of("age", 2), nature_of("foo")
    (<Nature.ROW: 'the row'>, <Nature.CLOCK: 'the clock'>, <Nature.ZONED: 'the row, in UTC'>, None)
    """
    if name == "age" and arguments == 1:
        return Nature.CLOCK  # the time that has passed since
    known = FUNCTIONS.get(name) or KEYWORDS.get(name)
    return known or next((nature for prefix, nature in _FAMILIES.items() if name.startswith(prefix)), None)
